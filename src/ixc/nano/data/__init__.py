"""What the embedded model learns from: glyph tokens, character images, curricula, packed questions."""
