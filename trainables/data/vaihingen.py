"""ISPRS Vaihingen: aerial images of a town, a class for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from trainables.data.contract import SplitSizes
from trainables.data.tiles import TEST, TilesConfig
from trainables.data.tiles_files import TileFolder
from trainables.errors import UserError


class Vaihingen(TilesConfig):
    """33 tiles of near infrared, red and green at 9 cm, six classes; split by tile as in P1.

    Read from ISPRS's own layout; there is no public download. The test tiles' ground truth came
    later than the others': put it into gts_for_participants/ to have a test split.
    """

    name: ClassVar[str] = "vaihingen"
    licence: ClassVar[str] = (
        "none stated; free for research, with acknowledgement of the DGPF and citation"
    )
    citation: ClassVar[str] = (
        "The Vaihingen data set was provided by the German Society for Photogrammetry, Remote "
        "Sensing and Geoinformation (DGPF): M. Cramer (2010). The DGPF-Test on Digital Airborne "
        "Camera Evaluation. PFG 2/2010, 73-82. F. Rottensteiner et al. (2012). The ISPRS Benchmark "
        "on Urban Object Classification and 3D Building Reconstruction. ISPRS Annals I-3, 293-298."
    )

    path: str = "vaihingen"
    """The folder with top/ and gts_for_participants/, relative to the data folder or absolute."""

    def folder(self, root: Path) -> TileFolder:
        """The folder at `path`.

        Raises:
            UserError: it is not there.
        """
        folder = TileFolder(root / self.path)
        if not folder.image(1).parent.is_dir():
            raise UserError(
                f"data vaihingen not found: looked for {folder.image(1)}; ask ISPRS for the "
                "Vaihingen set of its 2D semantic labeling benchmark and set OPTPATH_DATA or "
                "data.path, or use data stand_in_tiles, which is cut from two photographs"
            )
        return folder

    def resolved(self, root: Path) -> Vaihingen:
        """These options with P1's 17 test tiles if one of them has ground truth, else with none."""
        folder = self.folder(root)
        if self.test_tiles is not None:
            return self
        published = any(folder.ground_truth(tile).is_file() for tile in TEST)
        return self.model_copy(update={"test_tiles": TEST if published else ()})

    def sizes(self, root: Path) -> SplitSizes:
        """Patches of a training epoch, and tiles of the other splits; every file must be there."""
        self.folder(root).check(self.resolved(root).splits())
        return super().sizes(root)
