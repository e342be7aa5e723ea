"""Weights in and out: trained networks of other frameworks under the microscope."""

from rnndyn.interop.torch import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]
