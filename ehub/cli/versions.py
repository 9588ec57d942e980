"""Commands about the versions of a space: which there are, how they differ, which one is live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import ehub
from ehub.aliases import DEFAULT, LIFTED_BY
from ehub.cli import output
from ehub.cli.app import (
    EXIT_FAILED,
    Failure,
    Hub,
    Json,
    SpaceName,
    VersionName,
    Yes,
    app,
    confirm,
    find_space,
    find_version,
    open_to_read,
    open_to_write,
    view_of,
)
from ehub.cli.files import require_writable
from ehub.formats.arrays import map_npy

AliasName = Annotated[str, typer.Option("--alias", metavar="NAME", help="Which alias.")]
Why = Annotated[str, typer.Option("--why", help="For the alias's history.")]
Neighbors = Annotated[int, typer.Option("-k", min=1, max=1000, help="How many neighbors count.")]
Sample = Annotated[int, typer.Option(min=1, max=20_000, help="How many keys to look at.")]
Seed = Annotated[int, typer.Option(help="Which of them.")]
Exact = Annotated[bool, typer.Option("--exact", help="Scan all rows instead of the index.")]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", help="Also write a page with plots."),
]


@app.command()
def versions(hub: Hub, space: SpaceName, as_json: Json = False) -> None:
    """List the versions of a space, oldest first, and the aliases that lead to each."""
    with open_to_read(hub) as store:
        items = find_space(store, space)
        leading = items.aliases().values()
        rows = [
            describe(
                items.version(name), [alias.name for alias in leading if alias.version == name]
            )
            for name in items.versions()
        ]
    if as_json:
        output.print_json({"space": space, "versions": rows})
        return
    columns = ["version", "aliases", "rows ", "dims ", "metric", "model", "parent", "created", ""]
    output.print_table(columns, map(cells, rows))


def describe(version: ehub.Version, aliases: list[str]) -> dict[str, Any]:
    """All there is to say about a version, for JSON."""
    return {
        "name": version.name,
        "aliases": aliases,
        "rows": len(version),
        "dims": version.dims,
        "metric": version.metric,
        "key_type": version.key_type,
        "model": None if version.model is None else version.model.to_dict(),
        "lineage": version.lineage.to_dict(),
        "created": version.created,
        "frozen": version.frozen,
        "tags": [tag.name for tag in version.tags()],
    }


def cells(version: dict[str, Any]) -> list[object]:
    """The same in a line."""
    model = version["model"] or {}
    return [
        version["name"],
        ",".join(version["aliases"]),
        version["rows"],
        version["dims"],
        version["metric"],
        "@".join(filter(None, (model.get("name"), model.get("revision")))),
        version["lineage"].get("parent") or "",
        version["created"],
        "frozen" if version["frozen"] else "",
    ]


@app.command()
def freeze(hub: Hub, space: SpaceName, version: VersionName = None, yes: Yes = False) -> None:
    """Make a version of a space immutable, for ever."""
    with open_to_write(hub) as store:
        found = find_version(store, space, version)
        name = found.name
        if not yes:
            confirm(f"Freeze version {name!r} of space {space!r}? It cannot be undone.")
        found.freeze()
    output.say(f"froze version {name!r} of space {space!r}")


@app.command("delete-version")
def delete_version(
    hub: Hub,
    space: SpaceName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The version's name.")],
    yes: Yes = False,
) -> None:
    """Delete a version of a space and all its vectors."""
    with open_to_write(hub) as store:
        items = find_space(store, space)
        if name not in items.versions():
            raise Failure(f"space {space!r} has no version {name!r:.100}")
        rows = len(items.version(name))
        if not yes:
            confirm(f"Delete version {name!r} of space {space!r} with {rows:,} rows?")
        items.delete_version(name)
    output.say(f"deleted version {name!r} of space {space!r} with {rows:,} rows")


# --- aliases ---


@app.command()
def aliases(hub: Hub, space: SpaceName, as_json: Json = False) -> None:
    """List the aliases of a space, where they lead and where they would be rolled back to."""
    with open_to_read(hub) as store:
        found = list(find_space(store, space).aliases().values())
    if as_json:
        output.print_json({"space": space, "aliases": [asdict(alias) for alias in found]})
        return
    rows = (
        [alias.name, alias.version, *alias.previous[:1], "protected" if alias.protected else ""]
        if alias.previous
        else [alias.name, alias.version, "", "protected" if alias.protected else ""]
        for alias in found
    )
    output.print_table(["alias", "version", "before", ""], rows)


@app.command()
def alias(
    hub: Hub,
    space: SpaceName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The alias.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Where it is to lead.")],
    expect: Annotated[
        str | None, typer.Option(help="Only if it leads to this version now.")
    ] = None,
    protect: Annotated[
        bool | None,
        typer.Option(
            "--protect/--no-protect", help="Let promote and rollback alone move it; or all again."
        ),
    ] = None,
    why: Why = "",
) -> None:
    """Lead an alias to a version, whatever its figures; it is made if it is new."""
    with open_to_write(hub) as store:
        items = find_space(store, space)
        target = find_version(store, space, version).name
        expected: dict[str, Any] = {} if expect is None else {"expect": expect}
        try:
            items.alias(name, target, protect=protect, why=why, **expected)
        except ehub.ConflictError as error:
            if LIFTED_BY not in str(error):
                raise
            hint = "ehub promote and ehub rollback move it; --no-protect lifts that"
            raise Failure(f"the alias {name!r} is protected", hint) from error
    output.say(f"alias {name!r} of space {space!r} leads to {target!r}")


@app.command()
def promote(
    hub: Hub,
    space: SpaceName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Where the alias is to lead.")],
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIGURE=LEAST",
            help="What must hold: coverage=1, overlap_at_10=0.6, recall_at_10=0.95, rbo_at_10, "
            "cka, aligned_recall_at_10; may be given several times.",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npy", exists=True, help="Vectors to search with for recall_at_<k>."
        ),
    ] = None,
    alias: AliasName = DEFAULT,
    sample: Sample = 2_000,
    seed: Seed = 0,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Move an alias, "default" if not told otherwise, to a version that is good enough.

    The figures compare it with where the alias leads now. If one is too small nothing is moved, and
    the exit code is 1.
    """
    bounds = parse_bounds(require)
    vectors = None if queries is None else load_queries(queries)
    blocked = None
    with open_to_write(hub) as store:
        items = find_space(store, space)
        find_version(store, space, version)
        try:
            checks = items.promote(
                version,
                alias=alias,
                require=bounds,
                queries=vectors,
                sample=sample,
                seed=seed,
                why=why,
                progress=True,
            )
        except ehub.PromotionBlocked as error:
            checks, blocked = error.checks, error
    show_checks(checks, as_json=as_json, moved=blocked is None)
    if blocked is not None:
        output.note(f"error: {blocked}")
        raise typer.Exit(EXIT_FAILED)
    if not as_json:
        output.say(f"alias {alias!r} of space {space!r} leads to {version!r}")


def parse_bounds(texts: list[str] | None) -> dict[str, float]:
    """Requirements as typed: figure=least."""
    bounds = {}
    for text in texts or []:
        name, _, least = text.partition("=")
        try:
            bounds[name] = float(least)
        except ValueError:
            raise typer.BadParameter(
                f"--require is {text!r:.100}; expected FIGURE=LEAST, as coverage=1"
            ) from None
    return bounds


def load_queries(path: Path) -> NDArray[Any]:
    """The vectors of a .npy file."""
    if path.suffix != ".npy":
        raise typer.BadParameter(f"--queries is {path}; expected a .npy file of float32[n, dims]")
    return np.array(map_npy(path))


def show_checks(checks: tuple[ehub.Check, ...], *, as_json: bool, moved: bool) -> None:
    """What was required, and what was measured."""
    if as_json:
        listed = [{**asdict(check), "passed": check.passed} for check in checks]
        output.print_json({"moved": moved, "checks": listed})
        return
    rows = [
        [
            check.name,
            "-" if check.value is None else check.value,
            check.least,
            "ok" if check.passed else "failed",
            check.note,
        ]
        for check in checks
    ]
    if rows:
        output.print_table(["figure", "value ", "least ", "", "note"], rows)


@app.command()
def rollback(hub: Hub, space: SpaceName, alias: AliasName = DEFAULT, why: Why = "") -> None:
    """Move an alias, "default" if not told otherwise, back to where it led before."""
    with open_to_write(hub) as store:
        moved = find_space(store, space).rollback(alias, why=why)
    output.say(f"alias {alias!r} of space {space!r} leads to {moved.version!r} again")


# --- comparing ---


@contextmanager
def held(hub: ehub.Hub, space: str, text: str) -> Iterator[ehub.Snapshot]:
    """What VERSION, VERSION@TAG or @TAG names, as it is now: for the time of a `with` block."""
    items = find_space(hub, space)
    whole = text in (*items.versions(), *items.aliases())  # a name may have an @ of its own
    version, separator, tag = (text, "", "") if whole else text.partition("@")
    if not tag and (separator or not version):
        raise typer.BadParameter(
            f"{text!r:.100} is incomplete; expected VERSION, VERSION@TAG or @TAG"
        )
    found = view_of(hub, space, version or None, tag or None)
    with found if isinstance(found, ehub.Snapshot) else found.snapshot() as snapshot:
        yield snapshot


@app.command()
def compare(
    hub: Hub,
    space: SpaceName,
    a: Annotated[str, typer.Argument(metavar="A", help="VERSION, VERSION@TAG or @TAG.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    k: Neighbors = 10,
    sample: Sample = 2_000,
    seed: Seed = 0,
    exact: Exact = False,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """Measure how two versions of a space differ, or two points in time.

    Coverage, neighbour overlap, rank-biased overlap, CKA, Procrustes residual, shifts, norms and
    more, each with its sample and 95 % interval. --report needs matplotlib: ehub[report].
    """
    check_report(report)
    with open_to_read(hub) as store, held(store, space, a) as first, held(store, space, b) as other:
        found = ehub.compare(
            first,
            other,
            k=k,
            sample=sample,
            seed=seed,
            exact=exact,
            names=(a, b),
            progress=True,
        )
    write_report(found, report)
    show_comparison(found, as_json)


def check_report(path: Path | None) -> None:
    """Refuse before the measuring a page that could not be made after it."""
    from ehub.comparison.plots import import_matplotlib

    if path is None:
        return
    require_writable(path)
    try:
        import_matplotlib()
    except ImportError as error:
        raise Failure(str(error)) from None


def write_report(found: ehub.Comparison | ehub.Drift, path: Path | None) -> None:
    """The page, if there is to be one."""
    if path is not None:
        found.report(path)


def show_comparison(found: ehub.Comparison | ehub.Drift, as_json: bool) -> None:
    """The figures."""
    if as_json:
        output.print_json(found.to_dict())
    else:
        output.say(str(found))


@app.command()
def drift(
    hub: Hub,
    space: SpaceName,
    baseline: Annotated[str, typer.Argument(metavar="TAG", help="The tag to measure from.")],
    over: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TAG...]", help="Later tags to measure at, before now."),
    ] = None,
    version: VersionName = None,
    k: Neighbors = 10,
    sample: Sample = 2_000,
    seed: Seed = 0,
    exact: Exact = False,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """Measure how a space has moved since a tag: now, and at the tags between that are named."""
    check_report(report)
    with open_to_read(hub) as store:
        for name in (baseline, *(over or [])):
            view_of(store, space, version, name)
        found = find_version(store, space, version).drift(
            baseline,
            over=over or (),
            k=k,
            sample=sample,
            seed=seed,
            exact=exact,
            progress=True,
        )
    write_report(found, report)
    show_comparison(found, as_json)
