"""Static files under names that change with their content, also where one of the studio's scripts imports another."""

from whitenoise.storage import CompressedManifestStaticFilesStorage

_IMPORTS = (
    (r"""(?P<matched>from\s+["'](?P<url>\./[^"']+)["'])""", 'from "%(url)s"'),
    (r"""(?P<matched>import\(["'](?P<url>\./[^"']+)["']\))""", 'import("%(url)s")'),
)


class ModuleStaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # whitenoise has no types
    """The storage of static files."""

    # Not support_js_module_import_aggregation: other packages' scripts import what is not a file.
    patterns = (*CompressedManifestStaticFilesStorage.patterns, ("reprise/*.js", _IMPORTS))
