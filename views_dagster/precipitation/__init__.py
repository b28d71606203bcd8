"""The precipitation system: which fraction of a grid box has rain in each intensity band, from its column of air."""
