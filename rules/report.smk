# requires  results/<run>/ubm.h5
# promises  results/<run>/report.html    the training's history, to look at


rule report:
    input:
        RUN.final_path,
    output:
        f"{FOLDER}/report.html",
    log:
        f"{LOG}/report.log",
    conda:
        "../envs/gmmcore.yaml"
    shell:
        "gmmcore report --mixture {input:q} --output {output:q} 2>&1 | tee {log:q}"
