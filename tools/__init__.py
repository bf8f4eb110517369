"""Programs for those who work on this project; none of them is shipped with the pack."""
