"""The domains of the mock world: one state file and one tools file each."""
