"""`python -m tests.cluster.volumes KUBECONFIG FOLDER NODE`: makes volumes on the node for claims, and removes them.

Our own, because it needs no image and no pod, and because its volumes are of the kind `local`: the kubelet gives these
to a pod's `fsGroup`, as it does with disks, but not those of the kind `hostPath`, which most small provisioners make.
Volumes wait for their first pod, as most clouds' disks do: who waits for a claim before there is a pod waits for ever.
Their size is not enforced.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.api import Api

PROVISIONER = "slipway.test/local"
CLASS = "local"
STORAGE_CLASS: dict[str, Any] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": PROVISIONER,
    "volumeBindingMode": "WaitForFirstConsumer",
    "reclaimPolicy": "Delete",
}
_MADE_BY = "pv.kubernetes.io/provisioned-by"
_CHOSEN_NODE = "volume.kubernetes.io/selected-node"


def wants_volume(claim: dict[str, Any], node: str) -> bool:
    """Whether a claim waits for a volume of ours; ours serve one node."""
    spec, annotations = claim["spec"], claim["metadata"].get("annotations", {})
    ours = spec.get("storageClassName") == CLASS and annotations.get(_CHOSEN_NODE) == node
    return ours and not spec.get("volumeName") and "ReadWriteMany" not in spec["accessModes"]


def volume_for(claim: dict[str, Any], folder: Path, node: str) -> dict[str, Any]:
    """The volume of a claim: its folder has the volume's name."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_MADE_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": "Filesystem",
            "storageClassName": CLASS,
            "persistentVolumeReclaimPolicy": "Delete",
            "local": {"path": str(folder / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
            "claimRef": {
                "kind": "PersistentVolumeClaim",
                **{key: metadata[key] for key in ("name", "namespace", "uid")},
            },
        },
    }


def look(api: Api, folder: Path, node: str) -> None:
    """Make what is wanted, and remove what was released."""
    volumes = {volume["metadata"]["name"]: volume for volume in api.items("/api/v1/persistentvolumes")}
    for claim in api.items("/api/v1/persistentvolumeclaims"):
        if wants_volume(claim, node) and f"pvc-{claim['metadata']['uid']}" not in volumes:
            volume = volume_for(claim, folder, node)
            Path(volume["spec"]["local"]["path"]).mkdir(exist_ok=True)
            api.post("/api/v1/persistentvolumes", json=volume)
    for name, volume in volumes.items():
        ours = volume["metadata"].get("annotations", {}).get(_MADE_BY) == PROVISIONER
        if ours and volume["status"]["phase"] == "Released":
            shutil.rmtree(folder / name, ignore_errors=True)
            api.delete(f"/api/v1/persistentvolumes/{name}")


def main() -> None:
    """Look several times a second, until killed."""
    kubeconfig, folder, node = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    pause = threading.Event()
    with Api(kubeconfig) as api:
        while not pause.wait(0.25):
            try:
                look(api, folder, node)
            except httpx.HTTPError as error:  # The API was stopped, or somebody was faster: the next look sees.
                sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main()
