"""Slicer's module Sample Data: takes registrations, with the arguments of Slicer 5.8, and downloads nothing."""

from __future__ import annotations

from typing import Any


class SampleDataLogic:
    """Keeps what is registered; of the same sample it keeps one, as Slicer does."""

    def __init__(self) -> None:
        self.categories: dict[str, str] = {}
        self.sources: list[dict[str, object]] = []

    def registerCustomSampleDataCategory(self, category: str, title: str) -> None:
        """Give a category a title."""
        self.categories[category] = title

    def registerCustomSampleDataSource(
        self,
        category: str = "Custom",
        sampleName: Any = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: Any = None,
        loadFileType: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
    ) -> None:
        """Offer a sample."""
        source = {name: value for name, value in locals().items() if name != "self" and value is not None}
        if source not in self.sources:
            self.sources.append(source)
