"""The examples for clusters: what Slurm and Kubernetes are told is what they know, and the commands are commands of training."""

import copy
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from train.__main__ import parser
from train.launch import Nodes

#: Of requirements/dev.txt; the machines of `make test-gpu` have gpu.txt.
kubernetes_validate = pytest.importorskip("kubernetes_validate")
FOLDER = Path(__file__).parents[2] / "docker"
SBATCH = FOLDER / "slurm.sbatch"

#: Options of sbatch and what their values look like: https://slurm.schedmd.com/sbatch.html
OPTIONS = {
    "job-name": r"\w+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "cpus-per-task": r"\d+",
    "time": r"(\d+-)?\d+(:\d\d){0,2}",
    "output": r"[\w%./-]+",
}


def directives(text: str) -> dict[str, str]:
    """The options in a batch script, where sbatch looks for them: before the first command.

    Raises:
        ValueError: a line that sbatch would refuse, or never see.
    """
    head, command, rest = text.partition("\nset ")
    if not command or "#SBATCH" in rest:
        raise ValueError("an #SBATCH after the first command")
    found = {}
    for line in re.findall(r"^#SBATCH .*$", head, re.M):
        option = re.fullmatch(r"#SBATCH --([a-z-]+)=(\S+)", line)
        if option is None or not re.fullmatch(OPTIONS.get(option[1], "(?!)"), option[2]):
            raise ValueError(line)
        found[option[1]] = option[2]
    return found


def test_slurm_knows_the_options() -> None:
    found = directives(SBATCH.read_text())
    assert found.keys() == OPTIONS.keys()
    assert found["ntasks-per-node"] == "1"  # it starts a process a GPU itself


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("--gpus-per-node=4", "--gpu-per-node=4"),
        ("--nodes=2", "--nodes=two"),
        ("--nodes=2", "--nodes 2"),
        ("\nset -euo pipefail\n", "\nset -euo pipefail\n#SBATCH --exclusive\n"),
    ],
)
def test_control_slurm_does_not_know_others(right: str, wrong: str) -> None:
    text = SBATCH.read_text()
    assert right in text
    with pytest.raises(ValueError, match="SBATCH"):
        directives(text.replace(right, wrong))


def test_the_batch_script_is_valid_bash(tmp_path: Path) -> None:
    assert SBATCH.read_text().startswith("#!/bin/bash\n")
    assert "\nset -euo pipefail\n" in SBATCH.read_text()
    assert subprocess.run(["bash", "-n", SBATCH], check=False).returncode == 0
    broken = tmp_path / "broken"
    broken.write_text(SBATCH.read_text().replace('"$master"', '"$master'))
    assert subprocess.run(["bash", "-n", broken], capture_output=True, check=False).returncode


#: Slurm's programs, as far as the script asks them: a list of machines, and a command once on each.
STAND_INS = {
    "scontrol": '#!/bin/sh\n[ "$*" = "show hostnames node[07-08]" ] && printf "node07\\nnode08\\n"\n',
    "srun": """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for id in 0 1; do SLURM_NODEID=$id SLURM_GPUS_ON_NODE=4 "$@" || exit; done
""",
    ".venv/bin/python": '#!/bin/sh\nprintf "%s\\t" "$@"\necho\n',
}


def arguments_of_the_batch_script(folder: Path, *given: str) -> list[list[str]]:
    """What Python is called with, machine after machine."""
    for name, text in STAND_INS.items():
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    slurm = {"JOB_NODELIST": "node[07-08]", "JOB_ID": "1234567", "NNODES": "2", "CPUS_PER_TASK": "32"}
    environment = {f"SLURM_{name}": value for name, value in slurm.items()}
    environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", SBATCH, *given], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return [line.rstrip("\t").split("\t") for line in done.stdout.splitlines()]


def nodes(arguments: list[str]) -> Nodes:
    """Where a command trains, by training's own command line."""
    assert arguments[:2] == ["-m", "train"]
    given = parser().parse_args(arguments[2:])
    return Nodes(given.processes, given.nodes, given.node_rank, given.master)


def test_each_machine_of_slurm_trains_its_part(tmp_path: Path) -> None:
    given = ["cls/resnet50_flowers", "--load-from", "my weights.pth", "--cfg-options", "a.b=1", "c.d=2"]
    calls = arguments_of_the_batch_script(tmp_path, *given)
    assert [nodes(call) for call in calls] == [Nodes(4, 2, rank, "node07:24567") for rank in (0, 1)]
    for call in calls:
        parsed = parser().parse_args(call[2:])
        assert (parsed.experiment, str(parsed.load_from)) == ("cls/resnet50_flowers", "my weights.pth")
        assert parsed.cfg_options == ["a.b=1", "c.d=2"]


def manifests() -> tuple[dict[str, Any], dict[str, Any]]:
    claim, job = yaml.safe_load_all((FOLDER / "pytorchjob.yaml").read_text())
    return claim, job


def check(resource: dict[str, Any]) -> None:
    """Compare with Kubernetes' own schemas, where an unknown field is an error.

    Raises:
        kubernetes_validate.ValidationError: the field, and what it may be.
    """
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    """A job's machines, as the operator would make them."""
    machines = []
    for role, replicas in job["spec"]["pytorchReplicaSpecs"].items():
        for number in range(replicas["replicas"]):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{role.lower()}-{number}"}}
            machines.append({**copy.deepcopy(replicas["template"]), **pod})
    return machines


def test_kubernetes_knows_the_fields() -> None:
    claim, job = manifests()
    check(claim)
    for pod in pods(job):
        check(pod)
    mounted = {mount["name"] for mount in pods(job)[0]["spec"]["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pods(job)[0]["spec"]["volumes"]}
    assert mounted == volumes.keys()
    assert volumes["work"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        ("securityContext", "readOnlyRootFileSystem", True),  # of the right name, the F is small
        ("resources", "limits", "4 GPUs"),
        ("securityContext", "runAsUser", "slipway"),
    ],
)
def test_control_kubernetes_does_not_know_others(where: str, field: str, value: object) -> None:
    pod = pods(manifests()[1])[0]
    pod["spec"]["containers"][0][where][field] = value
    with pytest.raises(kubernetes_validate.ValidationError, match=field if value is True else str(value)):
        check(pod)


def test_the_job_is_one_of_the_training_operator() -> None:
    """The fields and roles of its API, v1: https://www.kubeflow.org/docs/components/trainer/legacy-v1/user-guides/pytorch/"""
    _, job = manifests()
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    assert job["spec"].keys() <= {"runPolicy", "elasticPolicy", "nprocPerNode", "pytorchReplicaSpecs"}
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas.keys() == {"Master", "Worker"}
    assert replicas["Master"]["replicas"] == 1
    for role in replicas.values():
        assert role.keys() == {"replicas", "restartPolicy", "template"}
        assert role["restartPolicy"] in {"Always", "OnFailure", "Never", "ExitCode"}
        assert [one["name"] for one in role["template"]["spec"]["containers"]] == ["pytorch"]


def test_machines_of_kubernetes_may_do_no_more_than_they_need() -> None:
    for pod in pods(manifests()[1]):
        user = pod["spec"]["securityContext"]
        assert user["runAsNonRoot"]
        assert user["runAsUser"] == 10001  # the images' own
        (container,) = pod["spec"]["containers"]
        assert container["image"] == "slipway-train"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"/work", "/tmp", "/dev/shm"} == {mount["mountPath"] for mount in container["volumeMounts"]}


def expanded(text: str, environment: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda name: environment[name[1]], text)


def test_each_machine_of_kubernetes_trains_its_part() -> None:
    _, job = manifests()
    machines = pods(job)
    for rank, pod in enumerate(machines):
        container = pod["spec"]["containers"][0]
        # What the operator sets, and Kubernetes puts in the place of $(NAME).
        given = {"RANK": str(rank), "MASTER_ADDR": "slipway-master-0", "MASTER_PORT": "23456"}
        arguments = [expanded(value, given) for value in container["args"]]
        gpus = container["resources"]["limits"]["nvidia.com/gpu"]
        assert nodes(arguments) == Nodes(gpus, len(machines), rank, "slipway-master-0:23456")
