"""The line: slots, units, manifest, daemon and command line."""
