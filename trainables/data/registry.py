"""The registry of data sets: one line per data set."""

from __future__ import annotations

from trainables.data.asymmetric_linear import AsymmetricLinear
from trainables.data.cifar10 import CIFAR10
from trainables.data.contract import DataConfig
from trainables.data.digits import Digits
from trainables.data.image_folder import ImageFolder
from trainables.data.image_stream import ImageStream
from trainables.data.imagenet import ImageNet
from trainables.data.mnist import MNIST
from trainables.data.mnist_as_svhn import MNISTAsSVHN
from trainables.data.ptb import PTB
from trainables.data.quadratic import Quadratic
from trainables.data.random_walk import RandomWalk
from trainables.data.sinusoidal_mixture import SinusoidalMixture
from trainables.data.svhn import SVHN
from trainables.data.tiles_stand_in import StandInTiles
from trainables.data.vaihingen import Vaihingen
from trainables.data.wikitext import WikiText2, WikiText103
from trainables.registry import registry_of

DATA: dict[str, type[DataConfig]] = registry_of(
    *(Digits, MNIST, CIFAR10, SVHN, MNISTAsSVHN, ImageFolder, ImageStream, ImageNet),
    *(Vaihingen, StandInTiles),
    *(WikiText2, WikiText103, PTB),
    *(AsymmetricLinear, SinusoidalMixture, Quadratic, RandomWalk),
)
