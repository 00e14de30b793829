"""What all adapters share: the save path, finding and opening models, and the adapters' common interface.

Saving is the same everywhere: describe the model, write its artifacts into a draft, load the draft again and
run it on the sample where there is one, publish. What differs is in a ``Plan``. Loading always checks the
digests first and says when a library's version is not the one that saved the model.
"""

from __future__ import annotations

import difflib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol, TypeAlias, TypedDict, TypeVar, Unpack

from frameworks import compatibility, pickling, sample
from frameworks.arrays import Array, Arrays, as_array
from frameworks.calling import Opened
from frameworks.errors import FrameworkError, InvalidModel, MissingFramework, WrongModule
from frameworks.row_errors import Answer
from store import Context, Model, ModelInfo, ModelStore, Signature, StoreError, Tag
from store.model import CUSTOM_OBJECTS
from store.plain import Plain
from store.signature import parse_signatures

DISTRIBUTION: Final = "runtime-serving"

Method = Callable[[Arrays], Answer]

Kinds: TypeAlias = type | tuple[type, ...]
"""Type, or types, that a load setting may have."""

_Native = TypeVar("_Native")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Where and how an instance executes.

    Args:
        device: ``cpu`` (default), ``cuda`` or ``cuda:N``.
        threads: CPU threads of one execution, from 1 (default) up. More than the cores of the instance only
            costs; several instances of one thread serve small models better than one of several.
        settings: what only one adapter knows, by its own names; see ``load_settings``.
    """

    device: str = "cpu"
    threads: int = 1
    settings: Mapping[str, Plain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise FrameworkError(f"threads must be at least 1, not {self.threads}", field="threads")


class SaveArguments(TypedDict, total=False):
    """Keyword arguments of every ``save_model``; each may be left out.

    ``signatures``: method name to ``Signature`` or its mapping form. ``labels``: texts to find the model by.
    ``metadata``: plain values to remember. ``custom_objects``: Python objects to keep beside the model.
    ``options``: how to serve it. ``sample``: an input (array, tuple by position, or mapping by name) on which
    the model is run once: infers tensor specs, measures batch invariance, serves for warm-up.
    ``external_modules``: modules whose code is stored with the pickles, since workers cannot import them.
    ``store``: where to save; default the store of ``$RUNTIME_HOME``. ``parent``: tag of the model that this
    one was made of. ``checks``: what was measured of it already.
    """

    signatures: Mapping[str, object] | None
    labels: Mapping[str, str] | None
    metadata: Mapping[str, object] | None
    custom_objects: Mapping[str, object] | None
    options: Mapping[str, object] | None
    sample: object
    external_modules: Sequence[ModuleType]
    store: ModelStore | None
    parent: str
    checks: Mapping[str, object] | None


class Adapter(Protocol):
    """What each adapter module offers."""

    def save_model(self, name: str, model: Any, /, **arguments: Unpack[SaveArguments]) -> Model:
        """Save a model under a new version and return it.

        Args:
            name: model name, or ``name:version`` to choose the version.
            model: the framework's own object.
            arguments: see ``SaveArguments``.

        Raises:
            InvalidModel: the model cannot be saved.
            SampleFailed: it does not do on the sample what its signature says.
            StoreError: a name, signature or record is wrong, or the version exists.
        """

    def load_model(
        self, tag: str | Tag | Model, /, *, store: ModelStore | None = None, device: str = "cpu"
    ) -> Any:
        """Return the framework's own object, ready for inference on the device."""

    def get(self, tag: str | Tag, /, *, store: ModelStore | None = None) -> Model:
        """Return the reference, provided that this adapter saved the model."""

    def open_methods(self, model: Model, options: LoadOptions, /) -> Mapping[str, Method]:
        """Load the model and return one callable per method of its signatures."""


class FileAdapter(Adapter, Protocol):
    """An adapter whose artifact is one file or folder that can be run where it lies."""

    def open_artifact(
        self, path: Path, signatures: Mapping[str, Signature], options: LoadOptions, /
    ) -> Mapping[str, Opened]:
        """Load the file or folder and return one callable per method of the signatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one adapter adds to the common save path.

    Args:
        module: the adapter's name.
        versions: distribution name to version, of the libraries that matter for loading.
        pickled: loading the artifacts runs code from them.
        signatures: contract of each method, with specs where they are known already.
        settings: the adapter's load settings and their types; nothing is written where others are given.
        write: writes the artifacts below a folder.
        open: loads them from there again, for the sample, with the load settings that can be tried here.
        convert: one sample value to an array.
    """

    module: str
    versions: Mapping[str, str]
    pickled: bool
    signatures: Mapping[str, Signature]
    settings: Mapping[str, Kinds]
    write: Callable[[Path], None]
    open: Callable[[Path, Mapping[str, Signature], Mapping[str, Plain]], Mapping[str, Opened]]
    convert: Callable[[object], Array] = as_array


def given_signatures(arguments: SaveArguments) -> dict[str, Signature] | None:
    """Return the caller's signatures, read and checked; None when the adapter is to use its default.

    Raises:
        InvalidSignature: one of them is wrong.
        FrameworkError: an argument is unknown, or the options are no table; looked up first, so that no
            typing error costs a long save.
    """
    known = SaveArguments.__annotations__
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise FrameworkError(f"save_model has no argument {name!r}; {hint}", field=name)
    given_settings(arguments)
    signatures = arguments.get("signatures")
    return None if signatures is None else parse_signatures(signatures)


def save(name: str, plan: Plan, arguments: SaveArguments) -> Model:
    """Save a model as planned: write, try on the sample, publish.

    Raises:
        InvalidModel: a load setting is wrong, or the artifacts cannot be written.
        SampleFailed: see ``frameworks.sample``.
        StoreError: a name or record is wrong, or the version exists.
    """
    settings = given_settings(arguments)
    check_settings(settings, plan.settings)
    tag = Tag.parse(name)
    if tag.is_latest:
        tag = Tag(tag.name, Tag.new_version())
    custom_objects = dict(arguments.get("custom_objects") or {})
    modules = arguments.get("external_modules") or ()
    store = arguments.get("store") or ModelStore.default()
    with store.create(_describe(tag, plan, arguments, bool(custom_objects))) as draft:
        try:
            plan.write(draft.path)
            if custom_objects:
                pickling.dump(custom_objects, draft.path / CUSTOM_OBJECTS, modules)
        except (FrameworkError, StoreError):
            raise
        except Exception as error:
            raise InvalidModel(f"model {tag.name!r} cannot be saved: {error!r}", field="model") from error
        if arguments.get("sample") is not None:
            draft.info = _try(plan, draft.path, draft.info, arguments["sample"], settings)
    return draft.model


def find(tag: str | Tag | Model, module: str, store: ModelStore | None = None) -> Model:
    """Return the model, provided that the adapter ``module`` saved it.

    Raises:
        WrongModule: another adapter did; it is named.
        StoreError: there is no such model.
    """
    model = tag if isinstance(tag, Model) else (store or ModelStore.default()).get(tag)
    if model.info.module != module:
        raise WrongModule(f"{model!r} was saved by {model.info.module!r}, not by {module!r}", field="module")
    return model


def load(
    model: Model, module: str, versions: Mapping[str, str], loader: Callable[[Path], _Native]
) -> _Native:
    """Check a model's files and hand its folder to the adapter's loader.

    Raises:
        WrongModule: another adapter saved it.
        CorruptArtifact, ModelMissing: the files differ from their digests, or are gone.
        InvalidModel: it was pickled under another major version of a library, or the loader failed; its
            error is the cause, and the message tells which versions differ.
    """
    find(model, module)
    differences = compatibility.check(model.info, versions)
    model.verify()
    try:
        with model.present():
            return loader(model.path)
    except InvalidModel as error:
        if not differences:
            raise
        raise InvalidModel(f"{error.message}; {differences}", field=error.field) from error
    except (FrameworkError, StoreError):
        raise
    except Exception as error:
        hint = f"; {differences}" if differences else ""
        raise InvalidModel(f"{model!r} cannot be loaded: {error!r}{hint}", field="model") from error


def missing(library: str, extra: str) -> MissingFramework:
    """Return the error for a library that is not installed."""
    return MissingFramework(
        f"{library} is not installed; run: pip install '{DISTRIBUTION}[{extra}]'", field=extra
    )


def _describe(tag: Tag, plan: Plan, arguments: SaveArguments, has_objects: bool) -> ModelInfo:
    try:
        version = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        version = ""  # used from a source tree
    return ModelInfo(
        name=tag.name,
        version=tag.version,
        module=plan.module,
        signatures=plan.signatures,
        labels=arguments.get("labels") or {},
        parent=arguments.get("parent") or "",
        checks=arguments.get("checks") or {},  # type: ignore[arg-type]  # checked by ModelInfo
        metadata=arguments.get("metadata") or {},  # type: ignore[arg-type]
        options=arguments.get("options") or {},  # type: ignore[arg-type]
        context=Context(
            framework_name=plan.module,
            framework_versions=plan.versions,
            runtime_version=version,
            python_version=platform.python_version(),
        ),
        pickled=plan.pickled or has_objects,
    )


def _try(plan: Plan, path: Path, info: ModelInfo, given: object, settings: Mapping[str, Plain]) -> ModelInfo:
    """Load the draft as a worker would and run it on the sample."""
    arrays = sample.read(given, plan.convert)
    result = sample.examine(plan.open(path, info.signatures, settings), info.signatures, arrays)
    sample.write(result.arrays, path)
    return replace(
        info,
        signatures=result.signatures,
        checks={**info.checks, "batch_invariance": result.invariance},
    )


def given_settings(arguments: SaveArguments) -> Mapping[str, Plain]:
    """Return the load settings that are about to be stored with a model.

    Raises:
        InvalidModel: the options, or those for loading, are no table.
    """
    options: object = arguments.get("options") or {}
    if not isinstance(options, Mapping):
        raise InvalidModel(f"options must be a table, not {options!r}", field="options")
    settings: object = options.get("load") or {}
    if not isinstance(settings, Mapping):
        raise InvalidModel(f"option load must be a table, not {settings!r}", field="load")
    return settings


def load_settings(model: Model, options: LoadOptions, known: Mapping[str, Kinds]) -> LoadOptions:
    """Return the options with the model's own ``options.load`` below them.

    Args:
        model: what is loaded; ``options={"load": {...}}`` was given when it was saved.
        options: how it is to be loaded; its settings win.
        known: the adapter's settings and their types.

    Raises:
        InvalidModel: a setting is unknown or of another type; the nearest name is proposed.
    """
    own = model.info.options.get("load") or {}
    if not isinstance(own, dict):
        raise InvalidModel(f"option load of {model.tag} must be a table, not {own!r}", field="load")
    settings = {**own, **options.settings}
    check_settings(settings, known)
    return replace(options, settings=settings)


def check_settings(settings: Mapping[str, Plain], known: Mapping[str, Kinds]) -> None:
    """Make sure that an adapter knows each setting.

    Raises:
        InvalidModel: a setting is unknown or of another type; the nearest name is proposed.
    """
    for name, value in settings.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none'}"
            raise InvalidModel(f"there is no load option {name!r}; {hint}", field=f"load.{name}")
        kind = known[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(one.__name__ for one in kinds)
            raise InvalidModel(f"load option {name!r} must be {wanted}, not {value!r}", field=f"load.{name}")
