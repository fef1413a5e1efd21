"""Age: when the value of a row is due: how old it has to be, and which column tells how old it is. Pure."""
