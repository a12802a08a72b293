# requires  the last mixture of the last stage
# promises  results/<run>/ubm.h5, history.tsv    what the user takes away
#           results/<run>/ubm.<format>           the same for other tools


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
        localrule: True
        conda:
            "../envs/gmmcore.yaml"
        params:
            format=name,
        shell:
            "gmmcore convert {input:q} {output:q} --format {params.format} 2>&1 | tee {log:q}"
