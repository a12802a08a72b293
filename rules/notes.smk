# requires  a file that is not what the configuration makes of its input
# promises  logs/again/<file>.<number>    a note that says why it is made again


rule again:
    output:
        "logs/again/{path}.{number}",
    log:
        "logs/again/{path}.log.{number}",
    wildcard_constraints:
        path="results/.+",
        number=r"\d+",
    conda:
        "../envs/gmmcore.yaml"
    params:
        # Derived from the output, or else another reason would be another parameter.
        reason=lambda wildcards, output: (
            f"{prefix()}{wildcards.path}: {problem(prefix() + wildcards.path) or 'made before'}"
        ),
    shell:
        "echo {params.reason:q}'; it is made again' 2> {log:q} | tee {output:q}"
