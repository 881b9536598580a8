"""Content-Type by the extension of a file's name, from a table of our own.

The host's registry (mimetypes of the standard library reads /etc/mime.types) would make the same file text on one
machine and an application on another; and since the server sends ``nosniff``, no browser mends a wrong type. Types are
those registered with IANA where there is one; source code is text/plain, which every browser shows.
"""

from __future__ import annotations

DEFAULT = b"application/octet-stream"
"""For a name without an extension or with one not in the table: a browser saves it."""

_EXTENSIONS = {
    b"text/html": b"html htm",
    b"text/css": b"css",
    b"text/javascript": b"js mjs cjs",  # RFC 9239
    b"text/plain": b"txt text log ini cfg conf toml properties env lock jsonl ndjson json5 jsonc srt nfo"
    b" rst adoc org tex diff patch c h cc hh cpp hpp cs go java kt kts rs swift zig dart scala hs ml lua pl pm r rb"
    b" php py pyi ts mts cts tsx jsx vue svelte scss sass less sh bash zsh ksh csh bat ps1 proto graphql cmake mk tf",
    b"text/csv": b"csv",
    b"text/tab-separated-values": b"tsv",
    b"text/markdown": b"md markdown",
    b"text/calendar": b"ics",
    b"text/vcard": b"vcf",
    b"text/vtt": b"vtt",
    b"application/xhtml+xml": b"xhtml",
    b"application/xml": b"xml xsl xsd",
    b"application/rss+xml": b"rss",
    b"application/atom+xml": b"atom",
    b"application/json": b"json map har",
    b"application/x-ipynb+json": b"ipynb",  # as Jupyter calls it
    b"application/ld+json": b"jsonld",
    b"application/geo+json": b"geojson",
    b"application/gpx+xml": b"gpx",
    b"application/vnd.google-earth.kml+xml": b"kml",
    b"application/manifest+json": b"webmanifest",
    b"application/yaml": b"yaml yml",  # RFC 9512
    b"application/wasm": b"wasm",
    b"application/pdf": b"pdf",
    b"application/postscript": b"ps eps",
    b"application/rtf": b"rtf",
    b"application/sql": b"sql",
    b"application/epub+zip": b"epub",
    b"application/zip": b"zip whl",
    b"application/gzip": b"gz tgz",
    b"application/x-brotli": b"br",
    b"application/zstd": b"zst",
    b"application/x-bzip2": b"bz2",
    b"application/x-xz": b"xz",
    b"application/x-tar": b"tar",
    b"application/x-7z-compressed": b"7z",
    b"application/java-archive": b"jar",
    b"application/vnd.android.package-archive": b"apk",
    b"application/vnd.debian.binary-package": b"deb",
    b"application/msword": b"doc",
    b"application/vnd.openxmlformats-officedocument.wordprocessingml.document": b"docx",
    b"application/vnd.ms-excel": b"xls",
    b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": b"xlsx",
    b"application/vnd.ms-powerpoint": b"ppt",
    b"application/vnd.openxmlformats-officedocument.presentationml.presentation": b"pptx",
    b"application/vnd.oasis.opendocument.text": b"odt",
    b"application/vnd.oasis.opendocument.spreadsheet": b"ods",
    b"application/vnd.oasis.opendocument.presentation": b"odp",
    b"application/vnd.apple.mpegurl": b"m3u8",
    b"application/dash+xml": b"mpd",
    b"image/png": b"png",
    b"image/apng": b"apng",
    b"image/jpeg": b"jpg jpeg jpe jfif",
    b"image/gif": b"gif",
    b"image/svg+xml": b"svg",
    b"image/webp": b"webp",
    b"image/avif": b"avif",
    b"image/heic": b"heic",
    b"image/heif": b"heif",
    b"image/jxl": b"jxl",
    b"image/bmp": b"bmp",
    b"image/tiff": b"tif tiff",
    b"image/vnd.microsoft.icon": b"ico cur",
    b"audio/mpeg": b"mp3",
    b"audio/mp4": b"m4a",
    b"audio/aac": b"aac",
    b"audio/ogg": b"ogg oga opus",
    b"audio/flac": b"flac",
    b"audio/wav": b"wav",
    b"audio/midi": b"mid midi",
    b"audio/webm": b"weba",
    b"audio/matroska": b"mka",
    b"audio/x-aiff": b"aif aiff",
    b"video/mp4": b"mp4 m4v",
    b"video/mpeg": b"mpg mpeg",
    b"video/3gpp": b"3gp",
    b"video/webm": b"webm",
    b"video/ogg": b"ogv",
    b"video/quicktime": b"mov",
    b"video/matroska": b"mkv",  # RFC 9559
    b"video/mp2t": b"m2ts",
    b"video/x-msvideo": b"avi",
    b"font/woff": b"woff",
    b"font/woff2": b"woff2",
    b"font/ttf": b"ttf",
    b"font/otf": b"otf",
    b"font/collection": b"ttc",
    b"model/gltf+json": b"gltf",
    b"model/gltf-binary": b"glb",
    b"model/stl": b"stl",
}


def _with_charset(content_type: bytes) -> bytes:
    # Without it a browser guesses at text; the other types say themselves how they are encoded.
    return content_type + b"; charset=utf-8" if content_type.startswith(b"text/") else content_type


MEDIA_TYPES = {
    extension: _with_charset(content_type)
    for content_type, extensions in _EXTENSIONS.items()
    for extension in extensions.split()
}
"""Content-Type by extension, without its dot and in lower case."""


def media_type(name: bytes) -> bytes:
    """The Content-Type of the file *name* (no directory), by its last extension: ``a.tar.gz`` is application/gzip.

    The dot that begins a hidden file's name begins no extension.
    """
    stem, _, extension = name.rpartition(b".")
    return MEDIA_TYPES.get(extension.lower(), DEFAULT) if stem else DEFAULT
