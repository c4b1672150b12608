"""What a page shows, section by section: texts and drawings from what was measured."""
