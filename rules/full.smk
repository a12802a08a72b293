# requires  the last diagonal mixture
# promises  results/<run>/full/<components>/000.h5    the same with covariance matrices

for stage in PLAN[1:]:
    if stage.origin == "tofull":

        rule tofull:
            input:
                start_input(stage),
            output:
                RUN.mixture(stage, 0),
            log:
                f"{LOG}/{stage.name}/000.log",
            localrule: True
            conda:
                "../envs/gmmcore.yaml"
            shell:
                "gmmcore tofull --mixture {input:q} --output {output:q} 2>&1 | tee {log:q}"
