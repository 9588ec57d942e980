"""Calls about names: spaces, versions, aliases; and about the hub as a whole."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import ehub
from ehub.aliases import Alias
from ehub.errors import InvalidArgumentError
from ehub.hub import Hub
from ehub.model import Model
from ehub.named_average import Averages
from ehub.server import scope
from ehub.server.calls import require_active
from ehub.server.config import Limits
from ehub.server.metrics.metrics import Metrics
from ehub.server.reading import stop_of
from ehub.server.requests import SLOTS
from ehub.server.targets import Targets
from ehub.version import Version
from ehub.view import View
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import check_message
from ehub.wire.packing import array_of

__all__ = ["Naming", "described"]

M_DEFAULT = 24
EF_CONSTRUCTION_DEFAULT = 100
TARGET_RECALL_DEFAULT = 0.95


class Naming:
    """A part of the servicer (service.py)."""

    _hub: Hub
    _limits: Limits
    _metrics: Metrics
    _targets: Targets

    # --- the hub ---

    def Hello(self, request: pb.HelloRequest, context: Any) -> pb.HelloResponse:
        limits = self._limits
        return pb.HelloResponse(
            release=ehub.__version__,
            read_only=self._hub.read_only,
            limits=pb.Limits(
                message_bytes=limits.message_bytes,
                rows=limits.rows,
                k=limits.k,
                batch_bytes=limits.batch_bytes,
                slots=SLOTS,
                clients=limits.clients,
                deadline_seconds=limits.deadline_seconds,
                snapshot_idle_seconds=limits.snapshot_idle_seconds,
                call_streams=limits.call_streams,
            ),
        )

    def Info(self, request: pb.InfoRequest, context: Any) -> pb.InfoResponse:
        info = self._hub.info()
        return pb.InfoResponse(
            path=info.path,
            read_only=info.read_only,
            spaces=info.spaces,
            rows=info.rows,
            disk_bytes=info.disk_bytes,
            seq=info.seq,
        )

    def Sync(self, request: pb.SyncRequest, context: Any) -> pb.Done:
        self._hub.save()
        return pb.Done()

    def Checkpoint(self, request: pb.CheckpointRequest, context: Any) -> pb.Done:
        self._hub._store.checkpoint(stop_of(context))
        return pb.Done()

    def Verify(self, request: pb.VerifyRequest, context: Any) -> pb.VerifyResponse:
        report = self._hub._verified(
            partial(self._hub._store.verify, stop_of(context)),
            before_step=lambda: require_active(context),
        )
        findings = [pb.Finding(path=one.path, what=one.what) for one in report.findings]
        return pb.VerifyResponse(
            files=report.files, bytes=report.bytes, rows=report.rows, findings=findings
        )

    def Metrics(self, request: pb.MetricsRequest, context: Any) -> pb.MetricsResponse:
        return pb.MetricsResponse(text=self._metrics.text())

    # --- spaces and versions ---

    def ListSpaces(self, request: pb.ListSpacesRequest, context: Any) -> pb.Names:
        sees = scope.may_see.get()
        return pb.Names(names=[name for name in self._hub.spaces() if sees is None or sees(name)])

    def CreateSpace(self, request: pb.CreateSpaceRequest, context: Any) -> pb.Description:
        shape = shape_of(request.schema)
        key_type: Any = shape.pop("key_type") or "str"
        return described(self._hub.create_space(request.space, key_type=key_type, **shape).current)

    def DeleteSpace(self, request: pb.DeleteSpaceRequest, context: Any) -> pb.Done:
        self._hub.delete_space(request.space)
        self._targets.forget()
        return pb.Done()

    def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.Description:
        target = request.target
        if target.average:
            return described(self._targets.version(target), self._targets.average(target))
        if target.subindex:
            found = self._targets.subindex(target)
            description = described(found.version)
            description.subindex_id = found._keys.id
            return description
        return described(self._targets.version(target))

    def ListVersions(self, request: pb.ListVersionsRequest, context: Any) -> pb.Names:
        return pb.Names(names=self._targets.space(request.space).versions())

    def CreateVersion(self, request: pb.CreateVersionRequest, context: Any) -> pb.Description:
        made = self._targets.space(request.space).create_version(
            request.version,
            **shape_of(request.schema),
            parent=request.parent if request.HasField("parent") else None,
            created_by=creator(request),
            run_id=request.run_id,
            code=request.code,
            data=request.data,
            labels=dict(request.labels),
        )
        return described(made)

    def DeleteVersion(self, request: pb.DeleteVersionRequest, context: Any) -> pb.Done:
        self._targets.space(request.space).delete_version(request.version)
        self._targets.forget()
        return pb.Done()

    def Freeze(self, request: pb.FreezeRequest, context: Any) -> pb.Done:
        self._targets.version(request.target).freeze()
        return pb.Done()

    def Fork(self, request: pb.ForkRequest, context: Any) -> pb.Description:
        version = self._targets.version(request.target)
        made = version.fork(
            request.name,
            at=self._targets.time(request.target),
            created_by=creator(request),
            labels=dict(request.labels),
        )
        return described(made)

    # --- aliases ---

    def ListAliases(self, request: pb.ListAliasesRequest, context: Any) -> pb.Aliases:
        aliases = self._targets.space(request.space).aliases()
        return pb.Aliases(aliases=[alias_message(one) for one in aliases.values()])

    def SetAlias(self, request: pb.SetAliasRequest, context: Any) -> pb.Alias:
        options: dict[str, Any] = {}
        if (expect := request.WhichOneof("expect")) is not None:
            options["expect"] = request.expect_version if expect == "expect_version" else None
        moved = self._targets.space(request.space).alias(
            request.alias,
            request.version if request.HasField("version") else None,
            protect=request.protect if request.HasField("protect") else None,
            why=request.why,
            **options,
        )
        return alias_message(moved)

    def RemoveAlias(self, request: pb.RemoveAliasRequest, context: Any) -> pb.Done:
        self._targets.space(request.space).unalias(request.alias)
        return pb.Done()

    def Promote(self, request: pb.PromoteRequest, context: Any) -> pb.PromoteResponse:
        checks = self._targets.space(request.space).promote(
            request.version,
            alias=request.alias,
            require={one.name: one.least for one in request.require},
            queries=array_of(request.queries) if request.HasField("queries") else None,
            sample=request.sample,
            seed=request.seed,
            why=request.why,
        )
        return pb.PromoteResponse(checks=[check_message(one) for one in checks])

    def Rollback(self, request: pb.RollbackRequest, context: Any) -> pb.Alias:
        space = self._targets.space(request.space)
        return alias_message(space.rollback(alias=request.alias, why=request.why))


def creator(request: Any) -> str | None:
    """Who makes something: whom the caller names, or the caller; None is the server's user."""
    if request.HasField("created_by"):
        return str(request.created_by)
    return scope.principal.get() or None


def shape_of(schema: pb.Schema) -> dict[str, Any]:
    """The options of `create_space()` and `create_version()`."""

    def given(name: str) -> Any:
        return getattr(schema, name) if schema.HasField(name) else None

    model = model_of(schema.model_json) if schema.model_json else None
    recall = given("target_recall")
    return {
        "dims": given("dims"),
        "metric": given("metric"),
        "key_type": given("key_type"),
        "model": model,
        "M": schema.M or M_DEFAULT,
        "ef_construction": schema.ef_construction or EF_CONSTRUCTION_DEFAULT,
        "ef": given("ef"),
        "target_recall": TARGET_RECALL_DEFAULT if recall is None else recall,
    }


def model_of(text: str) -> Model:
    """A model that travels as JSON."""
    try:
        return Model.from_dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgumentError(f"model_json is no model: {error}") from None


def described(version: Version, average: Averages | None = None) -> pb.Description:
    """What a version is; or a named average of it."""
    view: View = version if average is None else average
    model = version.model
    return pb.Description(
        space=version.space,
        version=version._table.version,
        version_id=version._table.id,
        dims=view.dims,
        metric=view.metric,
        key_type=view.key_type,
        M=version._table.M,
        ef_construction=version._table.ef_construction,
        frozen=version.frozen,
        created=version.created,
        model_json="" if model is None else json.dumps(model.to_dict()),
        lineage_json=json.dumps(version.lineage.to_dict()),
        normalize=average is not None and average.normalize,
    )


def alias_message(alias: Alias) -> pb.Alias:
    """An alias as it travels."""
    history = [
        pb.Move(version=one.version, at=one.at, by=one.by, why=one.why) for one in alias.history
    ]
    return pb.Alias(
        name=alias.name,
        version=alias.version,
        protected=alias.protected,
        previous=alias.previous,
        history=history,
    )
