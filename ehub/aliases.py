"""Aliases: names that lead to a version and can be moved, with a history; promotion and rollback.

The alias "default" of a space is what the space itself reads and writes. Moving it is how a new
model goes live, and moving it back is how it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ehub import names
from ehub._progress import bar
from ehub.errors import ConflictError, InvalidArgumentError, NotFoundError
from ehub.names import DEFAULT
from ehub.promotion import Check, PromotionBlocked, as_queries, as_required, measure

if TYPE_CHECKING:
    from ehub.hub import Hub
    from ehub.version import Version

__all__ = ["DEFAULT", "Alias", "Aliases", "Move"]

UNSAID: Any = object()
# How a protected alias is moved; commands say it in their words.
LIFTED_BY = "promote() and rollback() move it, or alias(..., protect=False) lifts that"


@dataclass(frozen=True, slots=True)
class Move:
    """One move of an alias: to which version, when (UTC, ISO 8601), by whom, and why."""

    version: str
    at: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that leads to a version.

    Args:
        name: Its name.
        version: Where it leads.
        protected: Whether only `promote()` and `rollback()` move it.
        previous: Where `rollback()` would lead, and then the next one; the last one first.
        history: All its moves, oldest first.
    """

    name: str
    version: str
    protected: bool = False
    previous: tuple[str, ...] = ()
    history: tuple[Move, ...] = field(default=())

    @classmethod
    def read(cls, name: str, values: Mapping[str, Any]) -> Alias:
        """What `written()` gave."""
        history = tuple(Move(**move) for move in values["history"])
        previous = tuple(values["previous"])
        for version in (values["version"], *previous):
            names.as_text(version, "a version")
        return cls(name, values["version"], values["protected"], previous, history)

    def written(self) -> dict[str, Any]:
        """As plain values."""
        values = asdict(self)
        del values["name"]
        return values

    def moved(self, version: str, previous: tuple[str, ...], why: str) -> Alias:
        """The same alias, leading elsewhere."""
        move = Move(version, names.now(), names.user(), why)
        return Alias(self.name, version, self.protected, previous, (*self.history, move))

    def without(self, version: str) -> Alias:
        """The same alias when a version is deleted: no rollback leads to it, nor past it.

        Else one would lead to the next version that is given its name.
        """
        if version not in self.previous:
            return self
        return replace(self, previous=self.previous[: self.previous.index(version)])


class Aliases:
    """What a space can do with its aliases; `Space` has it all."""

    __slots__ = ()

    _hub: Hub
    _name: str

    if TYPE_CHECKING:

        def version(self, name: str) -> Version: ...  # noqa: D102
        def versions(self) -> list[str]: ...  # noqa: D102

    def aliases(self) -> dict[str, Alias]:
        """All aliases by name; "default" is always there."""
        noted = self._noted()
        if DEFAULT not in noted:
            table = self._hub._store.get_space(self._name)
            noted = {DEFAULT: Alias(DEFAULT, table.version), **noted}
        return noted

    def alias(
        self,
        name: str,
        version: str | None = None,
        *,
        expect: str | None = UNSAID,
        protect: bool | None = None,
        why: str = "",
    ) -> Alias:
        """Lead an alias to a version, made if it is new; without a version, say where it leads.

        Args:
            name: Of the alias, up to 255 bytes; none of a version's.
            version: Where it is to lead. If it does already, nothing moves.
            expect: Do so only if it leads to this version now (None: only if it is new); else a
                ConflictError says where it leads.
            protect: Whether later only `promote()` and `rollback()` move it.
            why: For the history.
        """
        names.as_name(name, "an alias")
        names.as_text(why, "why")
        if not (protect is None or isinstance(protect, bool)):
            raise TypeError(f"protect is {protect!r:.100}; expected True or False")
        if not (expect is None or expect is UNSAID):
            names.as_text(names.require_str(expect, "a version"), "the name of a version")
        if version is None and protect is None and expect is UNSAID:
            return self._find_alias(name)
        with self._hub._names_lock:
            current = self.aliases().get(name)
            self._check_move(name, current, version, expect, protect)
            if version is None or (current is not None and current.version == version):
                alias = self._find_alias(name)
            elif current is None:
                alias = Alias(name, "").moved(version, (), why)
            else:
                alias = current.moved(version, (current.version, *current.previous), why)
            if protect is not None:
                alias = replace(alias, protected=protect)
            if alias != current:
                self._write(alias)
        return alias

    def unalias(self, name: str) -> None:
        """Remove an alias; not "default", and none that is protected."""
        with self._hub._names_lock:
            alias = self._find_alias(name)
            if name == DEFAULT or alias.protected:
                reason = "every space has it" if name == DEFAULT else "it is protected"
                raise ConflictError(f"the alias {name!r} cannot be removed: {reason}")
            kept = [one for one in self._noted().values() if one.name != name]
            self._write_aliases(kept)

    def promote(
        self,
        version: str,
        *,
        alias: str = DEFAULT,
        require: Mapping[str, float] | None = None,
        queries: Any = None,
        sample: int = 2_000,
        seed: int = 0,
        why: str = "",
        progress: bool = False,
    ) -> tuple[Check, ...]:
        """Move an alias to another version, if that is good enough; returns what was measured.

        Args:
            version: Where it is to lead.
            alias: Which.
            require: What must hold, by name, each at least so much: "coverage" (the share of the
                current version's keys that the new one has), "overlap_at_<k>" (of the neighbours
                of the same keys), "rbo_at_<k>", "cka", "aligned_recall_at_<k>" (all by
                `compare()`), "recall_at_<k>" (of the new version's index against exact search).
            queries: For the recall: float32[n, dims] of the new version; without them, its rows.
            sample: How many keys the comparison looks at.
            seed: Which ones.
            why: For the history.
            progress: Show a bar if standard error is a terminal.

        Raises:
            PromotionBlocked: A check failed: it says which, with figures. Nothing was moved.
        """
        names.as_text(why, "why")
        target = self.version(version)
        current = self.version(self._find_alias(alias).version)
        wanted = as_required(require)
        rows = None if queries is None else as_queries(queries, target)
        with bar(progress, len(wanted), "check", f"promote {target.space}") as shown:
            checks = measure(current, target, wanted, rows, sample, seed, shown)
        if any(not check.passed for check in checks):
            raise PromotionBlocked(alias, target.name, checks)
        with self._hub._names_lock:
            now = self._find_alias(alias)
            if now.version != current.name:
                raise ConflictError(
                    f"the alias {alias!r} led to {current.name!r} when {target.name!r} was "
                    f"compared with it, and leads to {now.version!r} now"
                )
            target = self.version(version)  # it may have been deleted meanwhile
            if target.name != now.version:
                previous = (now.version, *now.previous)
                self._write(now.moved(target.name, previous, why or "promote"))
        return checks

    def rollback(self, alias: str = DEFAULT, *, why: str = "") -> Alias:
        """Move an alias back to where it led before its last move; again, to the one before that.

        A NotFoundError if it led nowhere else, or if that version was deleted.
        """
        names.as_text(why, "why")
        with self._hub._names_lock:
            current = self._find_alias(alias)
            if not current.previous:
                raise NotFoundError(
                    f"the alias {alias!r} of space {self._name!r} has led to nothing but "
                    f"{current.version!r} (deleted versions do not count): there is nothing to "
                    "roll back to"
                )
            target, *earlier = current.previous
            self._require_version(target)
            moved = current.moved(target, tuple(earlier), why or "rollback")
            self._write(moved)
        return moved

    # --- helpers ---

    def _alias_target(self, name: str) -> str | None:
        """Where an alias leads; None if there is none of that name."""
        names.require_str(name, "an alias")
        alias = self.aliases().get(name) if name == DEFAULT else self._noted().get(name)
        return None if alias is None else alias.version

    def _default_version(self) -> str | None:
        """Where "default" leads; None if it was never moved."""
        alias = self._noted().get(DEFAULT)
        return None if alias is None else alias.version

    def _noted(self) -> dict[str, Alias]:
        note = names.note_of_space(self._name)
        noted = names.read(self._hub._store, note)
        return names.understood(
            note,
            lambda: {n: Alias.read(n, values) for n, values in noted.get("aliases", {}).items()},
        )

    def _find_alias(self, name: str) -> Alias:
        names.require_str(name, "an alias")
        alias = self.aliases().get(name)
        if alias is None:
            raise NotFoundError(f"space {self._name!r} has no alias {name!r:.100}")
        return alias

    def _require_version(self, name: str) -> None:
        names.require_str(name, "a version")
        if name not in self.versions():
            raise NotFoundError(f"space {self._name!r} has no version {name!r:.100}")

    def _check_move(
        self,
        name: str,
        current: Alias | None,
        version: str | None,
        expect: str | None,
        protect: bool | None,
    ) -> None:
        if name in self.versions():
            raise InvalidArgumentError(f"{name!r} is a version of space {self._name!r}")
        leads = None if current is None else current.version
        if expect is not UNSAID and expect != leads:
            raise ConflictError(
                f"the alias {name!r} of space {self._name!r} "
                + ("does not exist" if leads is None else f"leads to {leads!r}")
                + f"; {expect!r:.100} was expected"
            )
        if version is None:
            return
        self._require_version(version)
        if current is not None and current.protected and protect is not False:
            raise ConflictError(f"the alias {name!r} is protected: {LIFTED_BY}")

    def _write(self, alias: Alias) -> None:
        noted = self._noted()
        noted[alias.name] = alias
        self._write_aliases(list(noted.values()))

    def _write_aliases(self, aliases: list[Alias]) -> None:
        self._hub._store.set_notes(self._note_of(aliases))

    def _note_of(self, aliases: list[Alias]) -> dict[str, str | None]:
        values = {"aliases": {alias.name: alias.written() for alias in aliases}}
        return {names.note_of_space(self._name): names.written(values)}

    def _without_version(self, version: str) -> dict[str, str | None]:
        """What changes in the notes of the aliases when a version is deleted."""
        noted = list(self._noted().values())
        kept = [alias.without(version) for alias in noted]
        return {} if kept == noted else self._note_of(kept)
