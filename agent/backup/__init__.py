"""Copies of a volume in a registry: a job beside the workspace, started as `python -m agent.backup`.

A copy is an OCI artifact. Its layers, one after the other, are one tar archive in zstd frames, so that any tools that
speak to registries, unpack zstd and read tar can bring it back without Slipway. Its digest names it for good.
https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md
"""
