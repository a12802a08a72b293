# requires  results/<run>/ubm.h5 and corpus.json, for the comparison
# promises  <demo.folder>/shows.txt      the list of the demonstration corpus
#           <demo.folder>/truth.h5       the mixture its speech was drawn from
#           results/<run>/recovery.txt   the comparison of the final mixture with it


rule demo:
    input:
        settings="{demo}/settings.json",
    output:
        shows="{demo}/shows.txt",
        truth="{demo}/truth.h5",
    log:
        "logs/{demo}/demo.log",
    wildcard_constraints:
        demo=alternatives(DEMOS),
    conda:
        "../envs/gmmcore.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output.shows),
    shell:
        "gmmcore demo --settings {input.settings:q} --output {params.folder:q} --log {log:q}"


rule recovery:
    input:
        truth=lambda wildcards: f"{RUNS[wildcards.run].settings.demo.folder}/truth.h5",
        mixture=FINAL,
        corpus=lambda wildcards: corpus_of(RUNS[wildcards.run]),
    output:
        "results/{run}/recovery.txt",
    log:
        "logs/{run}/recovery.log",
    wildcard_constraints:
        run=alternatives(name for name, run in RUNS.items() if run.settings.demo.folder),
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore recovery --truth {input.truth:q} --mixture {input.mixture:q}"
        " --corpus {input.corpus:q} --output {output:q} --log {log:q}"
