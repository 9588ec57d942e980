"""Backups: what a hub is at one batch, in a directory or an object store.

    chunks/<2 digits>/<SHA-256>[.lz4]   pieces of files, by their contents, each once
    backups/<number>.json               one backup: what it is of, and which chunks list its files
    locks/<kind>-<random>.json          who is at work: leases that end by themselves

A chunk is named by what is in it and never changed, so a later backup adds only chunks that are not
there yet. A backup is there from the moment its record is, which is put last and only if no other
has that number: whatever is cut short before that leaves chunks that the next backup finds and the
next pruning removes.

`making` puts backups there, `restoring` makes hubs of them, `listing` and `pruning` look after
them; `place` is where they are, `lease` who may work there, `cutting` and `chunks` how files become
chunks, `record` what a backup says, `noted` what a hub knows of its backups.
"""
