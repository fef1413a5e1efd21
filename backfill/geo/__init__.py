"""Geo: the place of an address. ``source`` is what a kind of geo database has to do, ``sources`` lists the kinds."""
