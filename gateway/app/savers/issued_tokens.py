"""Saves which tokens were issued, so that they can be listed and revoked one by one."""

from __future__ import annotations

from gateway.app.savers.saver import Saver
from gateway.observe.save_failures import Saves
from gateway.services.token_issuer import TokenIssuer
from gateway.store import Store


class IssuedTokensSaver(Saver):
    """Saves a record of each token that this gateway issued."""

    subject = "token records"

    def __init__(self, store: Store, token_issuer: TokenIssuer, saves: Saves) -> None:
        super().__init__(saves)
        self._store = store
        self._token_issuer = token_issuer

    async def write(self) -> bool:
        """All that wait."""
        unsaved = self._token_issuer.unsaved()
        if unsaved:
            await self._store.tokens.add(unsaved)
            self._token_issuer.saved(len(unsaved))
        return bool(unsaved)
