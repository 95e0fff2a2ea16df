"""The processes that train one trial together."""
