"""The page that puts the paper's tables and figure beside what was measured."""
