"""Files that no person put there: what systems, shares and programs leave among pictures.

A recycle bin holds deleted and wrongly sorted pictures under the right folder names, a thumbnail
folder a small copy of each picture: read, they would become cells with labels.
"""

NAMES = {
    # Windows
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler",
    "recycled", "recycle.bin", "system volume information", "msocache", "_vti_cnf", "found.000",
    "found.001", "dfsrprivate",
    # macOS, and its file server
    "__macosx", "icon\r", "icon_", "network trash folder", "temporary items", "desktop db",
    "desktop df", "thevolumesettingsfolder", "thefindbycontentfolder",
    # Linux
    "lost+found",
    # network storage: Synology, QNAP, NetApp, Nextcloud
    "@eadir", "#recycle", "@recycle", "#snapshot", "@recently-snapshot", "@sharebin", "@tmp",
    "@__thumb", "@transcode", "@snapshot", "trashbox", "~snapshot", "files_trashbin",
    "files_versions",
    # programs of cameras and pictures
    "picasa.ini", "zbthumbnail.info", "_gsdata_", "pspbrwse.jbf", "__pycache__",
}  # fmt: skip
BEGINNINGS = (".", "~$", "@gmt-", "$recycle", "@syno", "~syncthing~")
ENDINGS = ("@synoeastream", "@synoresource", ":zone.identifier", ":encryptable")


def is_leftover(path: str) -> bool:
    """Tell whether a file, or a folder above it, is hidden or was left by a system or a program.

    Parameters
    ----------
    path : str
        With forward slashes.

    Notes
    -----
    macOS zips hold a ``__MACOSX/…/._NAME`` for each file and notebooks leave copies in
    ``.ipynb_checkpoints``: under the right folder names, so that patterns alone would count them.
    """
    return any(
        part in NAMES or part.startswith(BEGINNINGS) or part.endswith(ENDINGS)
        for part in path.lower().split("/")
    )
