"""Passes: functions of a graph, one file each."""
