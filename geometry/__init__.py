"""Quantities along an optimizer's path: tensors in, tensors out. Imports torch alone."""
