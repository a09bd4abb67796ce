"""The commands, a file each: flags in, one call into the rooms below, words out."""
