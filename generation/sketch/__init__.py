"""Sketch, the bundled model: a small ACE-Step transformer that dreams scores, and a codec that plays them."""
