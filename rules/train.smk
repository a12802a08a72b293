# requires  results/<run>/corpus.json and its shards
# promises  results/<run>/<kind>/<components>/<iteration>.h5    the mixture after each iteration;
#           iteration 000 is the one just initialised, split or made full


wildcard_constraints:
    kind="diag|full",
    components=r"\d+",
    iteration=r"\d\d\d+",
    part=r"\d+",
    parts=r"\d+",


rule initialise:
    input:
        start_input(PLAN[0]),
    output:
        RUN.mixture(PLAN[0], 0),
    log:
        f"{LOG}/{PLAN[0].name}/000.log",
    conda:
        "../envs/gmmcore.yaml"
    params:
        settings=lambda wildcards: quoted(SETTINGS["initialise"]),
        source=lambda wildcards: (
            ["--from", CONFIG["init"]["from"]] if CONFIG["init"]["from"] else []
        ),
    shell:
        "gmmcore initialise --corpus {input:q} {params.source:q} --settings {params.settings:q}"
        " --output {output:q} 2>&1 | tee {log:q}"


for stage in PLAN[1:]:
    if stage.origin == "split":

        rule:
            name:
                f"split_{stage.components}"
            input:
                start_input(stage),
            output:
                RUN.mixture(stage, 0),
            log:
                f"{LOG}/{stage.name}/000.log",
            localrule: True
            conda:
                "../envs/gmmcore.yaml"
            params:
                components=stage.components,
            shell:
                "gmmcore split --mixture {input:q} --components {params.components}"
                " --output {output:q} 2>&1 | tee {log:q}"


rule accumulate:
    input:
        mixture=previous,
        shards=shards_of_part,
    output:
        STATISTICS,
    log:
        f"{LOG}/{{kind}}/{{components}}/{{iteration}}/{{part}}-of-{{parts}}.log",
    conda:
        "../envs/gmmcore.yaml"
    threads: 1
    params:
        settings=lambda wildcards: quoted(SETTINGS["accumulate"]),
    shell:
        "gmmcore accumulate --mixture {input.mixture:q} --shards {input.shards:q}"
        " --settings {params.settings:q} --threads {threads} --output {output:q} 2>&1"
        " | tee {log:q}"


# A job that makes whole iterations goes on to the end of its stage; it is asked again for what it
# did not come to. Statistics are removed by the job that used them: temp() would keep all of them
# to the end, because Snakemake cannot know how many checkpoints are to come.
checkpoint maximise:
    input:
        mixture=unless_done(previous),
        statistics=unless_done(statistics_of_iteration),
        shards=unless_done(shards_of_iteration),
        corpus=unless_done(lambda wildcards: RUN.corpus_path),
    output:
        MIXTURE,
    log:
        f"{LOG}/{{kind}}/{{components}}/{{iteration}}.log",
    wildcard_constraints:
        iteration=r"(?!000)\d\d\d+",
    conda:
        "../envs/gmmcore.yaml"
    threads: iteration_threads
    resources:
        # Not parameters: other limits make no iteration stale.
        last_iteration=last_iteration,
        llk_gain=lambda wildcards: str(CONFIG["llk_gain"]),
    params:
        settings=lambda wildcards: quoted(SETTINGS[wildcards.kind]),
    shell:
        "gmmcore maximise --mixture {input.mixture:q} --statistics {input.statistics:q}"
        " --shards {input.shards:q} --threads {threads} --corpus {input.corpus:q}"
        " --components {wildcards.components} --settings {params.settings:q}"
        " --until {resources.last_iteration} --llk-gain={resources.llk_gain}"
        " --output {output:q} 2>&1 | tee {log:q} && rm -f {input.statistics:q}"
