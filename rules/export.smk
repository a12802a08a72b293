# requires  the last mixture of the last stage
# promises  results/<run>/ubm.h5, history.tsv    what the user takes away
#           results/<run>/ubm.<format>           the same for other tools


def final_input(wildcards):
    """The last mixture; nothing if the final one was made from it."""
    source = last_mixture(PLAN[-1])
    return [] if RUN.final_is_done(source) else source


rule finish:
    input:
        final_input,
    output:
        mixture=RUN.final_path,
        history=f"{FOLDER}/history.tsv",
    log:
        f"{LOG}/finish.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore finish --mixture {input:q} --output {output.mixture:q}"
        " --history {output.history:q} 2>&1 | tee {log:q}"


def exports():
    """Files of all formats that are asked for."""
    return [export_path(FOLDER, name) for name in CONFIG["export"]]


for name in CONFIG["export"]:

    rule:
        name:
            f"export_{name.replace('-', '_')}"
        input:
            RUN.final_path,
        output:
            export_path(FOLDER, name),
        log:
            f"{LOG}/export-{name}.log",
        conda:
            "../envs/gmmcore.yaml"
        params:
            format=name,
        shell:
            "gmmcore convert {input:q} {output:q} --format {params.format} 2>&1 | tee {log:q}"
