"""Configuration of the node's programs: pure functions of the node's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cluster import attach, cgroups, images, names, network, programs


def kubelet(folder: Path) -> dict[str, Any]:
    """The kubelet, on the node's address, with all that it writes below the folder."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.NODE,
        "healthzBindAddress": network.NODE,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": _below(folder, "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": _below(folder, "node.crt"),
        "tlsPrivateKeyFile": _below(folder, "node.key"),
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "podLogsDir": _below(folder, "pod-logs"),
        "volumePluginDir": _below(folder, "volume-plugins"),
        "resolvConf": _below(folder, "resolv.conf"),
        "clusterDNS": [network.NAME_SERVICE],
        "clusterDomain": names.DOMAIN,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.NAME}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # A negative value, as usual for a kubelet, needs a capability that a test machine's root may lack.
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "makeIPTablesUtilChains": False,
        "registryPullQPS": 0,
        "nodeStatusUpdateFrequency": "5s",
        # The disk is the machine's: a half full one is no reason to evict a test's pod or to remove its image.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "featureGates": {"ImageVolume": True},
    }


def _below(folder: Path, name: str) -> str:
    return str(folder / name)


def containerd(folder: Path) -> str:
    """containerd with runc, both ours; images come from archives, and from what is added in `registries`."""
    return f"""
version = 3
root = "{folder}/containerd"
state = "{folder}/containerd-state"
oom_score = 0
grpc = {{address = "{folder}/containerd.sock"}}
[plugins]
'io.containerd.internal.v1.opt' = {{path = "{folder}/containerd-opt"}}
'io.containerd.nri.v1.nri' = {{disable = true}}
[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
pinned_images = {{sandbox = "{images.PAUSE}"}}
registry = {{config_path = "{folder}/registries"}}
[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE a negative score for a sandbox ends in "can't get final child's PID from pipe: EOF".
restrict_oom_score_adj = true
disable_apparmor = true
enable_selinux = false
cni = {{bin_dirs = ["{programs.PLUGINS}", "{folder}/plugins"], conf_dir = "{folder}/cni"}}
[plugins.'io.containerd.cri.v1.runtime'.containerd]
default_runtime_name = "runc"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options = {{BinaryName = "{programs.path("runc")}", SystemdCgroup = false}}
"""


def pod_network(folder: Path) -> dict[str, Any]:
    """A link of its own for each pod: the node routes all traffic, also between pods, so that policies see it.

    On a bridge it would pass below them, unless a kernel module that not every machine has sends it up.
    """
    addresses = {
        "type": "host-local",
        "dataDir": _below(folder, "addresses"),
        "ranges": [[{"subnet": network.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": False, "ipam": addresses},
            {"type": attach.NAME, "notes": _below(folder, "notes")},
        ],
    }


def kube_proxy(kubeconfig: Path) -> dict[str, Any]:
    """Services, by nftables."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": network.PODS,
        "bindAddress": network.NODE,
        "healthzBindAddress": f"{network.NODE}:10256",
        "metricsBindAddress": f"{network.NODE}:10249",
        # It sets no limits of the machine's connection tracking.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }
