"""From grants to decisions: what a principal may do, and what it may know of.

The rules, all of them:

1. What no grant gives is denied.
2. A grant gives the verbs of its role on all that its resource covers: `hub` covers everything,
   `space:<glob>` the spaces that match, `space:<name>/partition:<glob>` rows in these partitions.
3. Grants add up. A call that stays within several partitions is allowed if each of them is in some
   grant that gives the verb.
4. A read that names no partition, of a principal that has partitions only, is a read of those: the
   engine filters by them (`partitions`). A write must say where.
5. A principal knows of a space that any grant of it touches, and of no other. To it, a space that
   it does not know of is not there: the answer depends on the name alone, never on whether there
   is a space of that name, so it cannot be told apart from one that is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ehub.access.grants import Grant, Resource

__all__ = ["ALLOWED", "Decision", "Rights"]

MEMORY_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer.

    Args:
        allowed: Whether the call may go on.
        hidden: If not: whether the resource must look as if it were not there.
        why: If not: for the caller and the audit log.
    """

    allowed: bool
    hidden: bool = False
    why: str = ""


ALLOWED = Decision(True)


class Rights:
    """What some grants give together. Immutable to those who ask; any thread may.

    Asking costs a look into a table once the same was asked before.
    """

    __slots__ = ("_grants", "_known")

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._grants = tuple(grants)
        self._known: dict[tuple[str, Resource], Decision] = {}

    @property
    def grants(self) -> tuple[Grant, ...]:
        """The grants."""
        return self._grants

    def decide(self, verb: str, resource: Resource, *, within: bool = False) -> Decision:
        """Whether a call may go on.

        Args:
            verb: One of `roles.VERBS`; any other is denied.
            resource: What the call is about.
            within: The call is filtered by `partitions()`, so a grant on any partition is enough
                where the resource is a whole space.
        """
        asked = (f"{verb}+" if within else verb, resource)
        decision = self._known.get(asked)
        if decision is None:
            decision = self._decide(verb, resource, within)
            if len(self._known) >= MEMORY_MAX:  # names that callers made up
                self._known.clear()
            self._known[asked] = decision
        return decision

    def _decide(self, verb: str, resource: Resource, within: bool) -> Decision:
        giving = [grant for grant in self._grants if grant.gives(verb)]
        if any(grant.covers(resource) for grant in giving):
            return ALLOWED
        space = resource.space
        if space is None:
            return Decision(False, why=f"you may not {verb} on the hub as a whole")
        here = [grant for grant in giving if grant.touches(space)]
        if resource.partitions is None:
            # Names are of the whole space: whoever may do anything in it knows of them.
            if here and (within or verb == "see"):
                return ALLOWED
        elif resource.partitions and all(
            any(grant.has_partition(name) for grant in here) for name in resource.partitions
        ):
            return ALLOWED
        if not self.may_see(space):
            return Decision(
                False, hidden=verb != "create", why=f"you may not {verb} {space!r:.300}"
            )
        return Decision(False, why=refusal(verb, resource, partly=bool(here)))

    def may_see(self, space: str) -> bool:
        """Whether it may know that there is a space of that name."""
        return any(grant.touches(space) for grant in self._grants)

    def may_somewhere(self, verb: str) -> bool:
        """Whether there is anything at all on which it has this verb."""
        return any(grant.gives(verb) for grant in self._grants)

    def is_whole(self, verb: str, space: str) -> bool:
        """Whether it has this verb on all of a space, not on partitions of it alone."""
        return self.decide(verb, Resource(space)).allowed

    def has_partition(self, verb: str, space: str, partition: str) -> bool:
        """Whether it has this verb in a partition of a space, be there rows in it or not."""
        return self.decide(verb, Resource(space, (partition,))).allowed

    def partitions(self, verb: str, space: str, there: Iterable[str]) -> tuple[str, ...] | None:
        """Those of some partitions in which it has this verb; None: the whole space."""
        if self.is_whole(verb, space):
            return None
        return tuple(name for name in there if self.has_partition(verb, space, name))


def refusal(verb: str, resource: Resource, *, partly: bool) -> str:
    """Why a call is denied, to someone who knows of the space."""
    text = f"you may not {verb} in space {resource.space!r:.300}"
    if resource.partitions:
        text += f", partition {', '.join(map(repr, resource.partitions[:5]))}"
    if partly:
        text += "; you may in some of its partitions, so name one of those"
    return text
