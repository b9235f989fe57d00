"""Tests; a package by name, because a package elsewhere is called tests too (torch-fidelity brings one)."""
