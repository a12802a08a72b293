# requires  results/<run>/corpus.json and its shards
# promises  results/<run>/<kind>/<components>/<iteration>.h5    the mixture after each iteration;
#           iteration 000 is the one just initialised, split or made full

E_STEP = quoted(SETTINGS["accumulate"])
MIXTURE = FOLDER + "/{kind}/{components}/{iteration}.h5"
STATISTICS = FOLDER + "/{kind}/{components}/{iteration}/{part}-of-{parts}.stats.h5"
LOG = f"logs/{CONFIG['run']}"


wildcard_constraints:
    kind="diag|full",
    components=r"\d+",
    iteration=r"\d\d\d+",
    part=r"\d+",
    parts=r"\d+",


def jobs():
    """E-step jobs an iteration."""
    if CONFIG["jobs"] != "auto":
        return CONFIG["jobs"]
    return 1 if workflow.local_exec and MAIN else len(shard_files())


def previous(wildcards):
    """The mixture before this one, in the same stage."""
    stage = RUN.stage(wildcards.kind, wildcards.components)
    return RUN.mixture(stage, int(wildcards.iteration) - 1)


def shards_of_part(wildcards):
    """Shards of one E-step job."""
    chosen = divided(len(shard_files()), int(wildcards.parts))[int(wildcards.part)]
    return [shard_files()[index] for index in chosen]


def iteration_input(wildcards):
    """Nothing, for a mixture that is done."""
    if is_done(wildcards.kind, wildcards.components, wildcards.iteration):
        return {}
    count = len(divided(len(shard_files()), jobs()))
    return {
        "mixture": previous(wildcards),
        "statistics": expand(
            STATISTICS, part=range(count), parts=count, allow_missing=True
        ),
        "corpus": RUN.corpus_path,
    }


def start_input(stage):
    """Input of the job that makes the first mixture of a stage; nothing if that is done."""

    def function(wildcards):
        if is_done(stage.kind, stage.components, 0):
            return []
        if stage.origin == "initialise":
            return known_corpus() and RUN.corpus_path or checkpoints.corpus.get().output
        return last_mixture(RUN.before(stage))

    return function


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
    shell:
        "gmmcore initialise --corpus {input:q} --settings {params.settings:q}"
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
        LOG + "/{kind}/{components}/{iteration}/{part}-of-{parts}.log",
    conda:
        "../envs/gmmcore.yaml"
    threads: workflow.cores if jobs() == 1 and workflow.cores else 1
    params:
        settings=lambda wildcards: E_STEP,
    shell:
        "gmmcore accumulate --mixture {input.mixture:q} --shards {input.shards:q}"
        " --settings {params.settings:q} --threads {threads} --output {output:q} 2>&1"
        " | tee {log:q}"


# Statistics are removed by the job that used them: temp() would keep all of them to the end,
# because Snakemake cannot know how many checkpoints are to come.
checkpoint maximise:
    input:
        unpack(iteration_input),
    output:
        MIXTURE,
    log:
        LOG + "/{kind}/{components}/{iteration}.log",
    wildcard_constraints:
        iteration=r"(?!000)\d\d\d+",
    conda:
        "../envs/gmmcore.yaml"
    params:
        settings=lambda wildcards: quoted(SETTINGS[wildcards.kind]),
    shell:
        "gmmcore maximise --mixture {input.mixture:q} --statistics {input.statistics:q}"
        " --corpus {input.corpus:q} --components {wildcards.components}"
        " --settings {params.settings:q} --output {output:q} 2>&1"
        " | tee {log:q} && rm -rf {input.statistics:q}"
