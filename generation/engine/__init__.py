"""Music from text with diffusers' ACE-Step pipelines: torch, but no Django.

This file imports nothing, so that forms can use `engine.schedule`, which is plain Python, without loading torch.
"""
