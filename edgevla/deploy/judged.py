"""The robot's own word on a release, before anything of it travels but its manifest."""

from __future__ import annotations

from typing import Any

from edgevla.deploy.agent_client import AgentClient
from edgevla.deploy.local import LocalRelease
from edgevla.deploy.progress import Screen
from edgevla.trust.envelope import TRUST_FILE


async def require_judged(client: AgentClient, hello: dict[str, Any], local: LocalRelease, screen: Screen) -> None:
    """Signature, key, machine, counter and trust update, judged by the keys that are pinned there.

    Raises what the robot would refuse the release with: BadInput, Refused. An older installer cannot say.
    """
    if "judge" not in (hello.get("does") or ()):
        screen.warn("whether the signature is of a pinned key, the installer there says only when it installs")
        return
    head, path = local.head, local.folder / TRUST_FILE
    update = path.read_bytes() if TRUST_FILE in local.envelope.files else b""
    parts = {"manifest": head.manifest, "signature": head.signature or b"", "trust": update}
    sizes = {f"{name}_bytes": len(raw) for name, raw in parts.items()}
    await client.request("judge", sizes, b"".join(parts.values()))
    screen.step("the robot would take the release", "signed by a key that is pinned there")
