"""A SLURM of several nodes on this machine, in a folder of its own.

munged, slurmctld and one slurmd a node (`slurmd -N`) are children of this process. All that the
cluster does on other files is a link /etc/slurm/slurm.conf, because jobs of Snakemake's plugin look
for the configuration there. It needs root, but neither systemd nor a network.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

LINK = Path("/etc/slurm/slurm.conf")
CONFIGURATION = """# Written by gmmcore's tests.
ClusterName=gmmcore
SlurmctldHost=localhost
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is requeued waits until its old credential has expired; the default is two minutes.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
# The default, none, starts ranks that do not know of each other.
MpiDefault=pmi2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Without control groups, memory is measured every second.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
MinJobAge=3600
ReturnToService=2
SlurmdTimeout=5
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PartitionName=all Nodes=ALL Default=YES
"""
NODE = """NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={cores} \\
RealMemory={memory}
"""


class Slurm:
    """The cluster, from `start` to `stop`.

    Parameters
    ----------
    folder : Path
        An empty folder, for state, spool and logs.
    nodes, cores, memory : int
        Number of nodes, and cores and megabytes of each; there may be more than the machine has.
    """

    def __init__(self, folder: Path, *, nodes: int = 2, cores: int = 2, memory: int = 4000) -> None:
        self.folder = folder
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self._shape = {"cores": cores, "memory": memory}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything, and wait until all nodes are idle."""
        if os.path.lexists(LINK) and (not _is_ours(LINK) or output_of("sinfo")):
            raise RuntimeError(f"{LINK}: there is a SLURM on this machine; it is not touched")
        # All processes that belong to the cluster, its jobs too, are known by this.
        os.environ["GMMCORE_CLUSTER"] = str(self.folder)
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        ports = iter(_free_ports(1 + len(self.nodes)))
        text = CONFIGURATION.format(folder=self.folder, port=next(ports))
        for name in self.nodes:
            (self.folder / name).mkdir()
            text += NODE.format(name=name, port=next(ports), **self._shape)
        (self.folder / "slurm.conf").write_text(text)
        LINK.parent.mkdir(exist_ok=True)
        LINK.unlink(missing_ok=True)
        LINK.symlink_to(self.folder / "slurm.conf")
        places = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid"}
        places |= {"seed-file": "munged.seed"}
        options = [f"--{option}={self.folder / name}" for option, name in places.items()]
        self._run("munged", "munged", "--foreground", "--force", *options)
        wait_for((self.folder / "munge.socket").exists, 10, "munged")
        self._run("slurmctld", "slurmctld", "-D", "-i")
        for name in self.nodes:
            self.start_node(name)

    def stop(self) -> None:
        """End all jobs, all daemons, and whoever submits; the folder stays."""
        if not self._daemons:
            return  # Another one may be at work.
        subprocess.run(["scancel", "--user=root"], timeout=60, check=False)
        for name in list(self._daemons):
            self._end(name, signal.SIGTERM)
        for name in self.nodes:
            kill(at_work_in(self.folder / name))
        kill(with_variable(f"GMMCORE_CLUSTER={self.folder}"))
        if _is_ours(LINK):
            LINK.unlink()

    def start_node(self, name: str) -> None:
        """Start the slurmd of a node, and wait until the node is at work."""
        self._run(name, "slurmd", "-D", "-N", name)
        wait_for(lambda: self.state(name) in ("idle", "mix", "alloc"), 30, f"node {name}")

    def lose_node(self, name: str) -> None:
        """Kill the slurmd of a node and all that runs there, as if the node lost its power."""
        self._end(name, signal.SIGKILL)
        # First those that would tell slurmctld how the jobs ended.
        kill(at_work_in(self.folder / name))
        kill(with_variable(f"SLURMD_NODENAME={name}"))

    def state(self, name: str) -> str:
        """The state of a node; empty if slurmctld does not answer."""
        return output_of("sinfo", "--noheader", f"--nodes={name}", "--format=%t")

    def submitted(self, folder: Path) -> list[dict[str, str]]:
        """All jobs submitted from a folder, with what `scontrol show jobs` says of them."""
        lines = output_of("scontrol", "--oneliner", "show", "jobs").splitlines()
        jobs = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
        return [job for job in jobs if job.get("WorkDir") == str(folder)]

    def running(self, folder: Path) -> list[dict[str, str]]:
        """The running jobs that were submitted from a folder."""
        return [job for job in self.submitted(folder) if job["JobState"] == "RUNNING"]

    def _run(self, name: str, *command: str) -> None:
        with open(self.folder / f"{name}.log", "ab") as output:
            self._daemons[name] = subprocess.Popen(
                command,
                # The processes around the jobs of a node are known by this.
                cwd=self.folder / (name if name in self.nodes else ""),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def _end(self, name: str, number: int) -> None:
        daemon = self._daemons.pop(name)
        daemon.send_signal(number)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def kill(victims: Iterable[int]) -> None:
    """Kill processes that may be gone."""
    for process in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def with_variable(variable: str) -> list[int]:
    """Processes that have a variable, with its value, in their environment."""
    wanted = variable.encode()
    return _processes(lambda proc: wanted in (proc / "environ").read_bytes().split(b"\0"))


def at_work_in(folder: Path) -> list[int]:
    """Processes whose working directory is a folder."""
    return _processes(lambda proc: (proc / "cwd").readlink() == folder)


def _processes(is_wanted: Callable[[Path], bool]) -> list[int]:
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if is_wanted(proc) and int(proc.name) != os.getpid():
                found.append(int(proc.name))
    return found


def missing() -> str:
    """What this machine lacks for a cluster; empty if nothing."""
    if os.geteuid():
        return "root"
    programs = ("munged", "slurmctld", "slurmd", "srun", "sbatch")
    return ", ".join(name for name in programs if shutil.which(name) is None)


def output_of(*command: str) -> str:
    """What a command prints; empty if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
    return "" if done.returncode else done.stdout.decode().strip()


def wait_for(is_reached: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not is_reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: waited for {seconds} s in vain")
        time.sleep(0.1)


def _is_ours(path: Path) -> bool:
    """Whether a configuration is one of these tests; one that is gone was."""
    if not path.exists():
        return path.is_symlink()
    return path.is_symlink() and path.read_text().startswith(CONFIGURATION.splitlines()[0])


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _die_with_parent() -> None:
    """Daemons end with the tests, even if these are killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
