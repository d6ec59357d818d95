"""Proving the heads of chains anew under the present master key, for `rewrap`."""

from __future__ import annotations

from uuid import UUID

from chassis.database import Database
from chassis.rewrap import Rewrapped
from chassis.sealing import Sealer
from services.audit.ingest import store
from services.audit.ingest.chain import Chains

_BATCH = 500


async def prove_anew(db: Database, sealer: Sealer) -> Rewrapped:
    """Give every head that proves itself a proof under the present key.

    One that does not, because somebody changed it or because its key is not configured, is left as it is:
    proving it would hide that.
    """
    chains = Chains(sealer)
    done = unproven = 0
    last: UUID | None = None
    while True:
        async with db.platform() as tx:
            heads = await store.lock_heads_of_other_keys(tx, sealer.key_id, last, _BATCH)
            good = [head for head in heads if head.broken_position is not None or chains.proves(head)]
            await store.put_proofs(tx, [chains.seal(head) for head in good])
        done += len(good)
        unproven += len(heads) - len(good)
        if len(heads) < _BATCH:
            return Rewrapped("chain_heads.mac", done, unproven)
        last = heads[-1].client_id
