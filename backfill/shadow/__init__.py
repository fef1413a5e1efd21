"""Shadow copy: a new table without the raw column takes the old one's place.

1. ``catalog``: what the table has; what cannot be carried is refused by name before anything is done.
2. ``capture``: a trigger notes the key of every row that changes from now on; never a value.
3. ``build``: the new table, filled by block ranges; then its indexes; then its foreign keys.
4. ``replay``: rows whose key was noted are taken anew from the original.
5. ``compare``: every row of the copy against its original, links and geo recomputed from the text.
6. ``cutover``: one short transaction swaps the names; ``finish`` drops the old table, with its addresses.
"""
