"""Private functions of Keras that libraries import, under their names and with their arguments.

`compat.internal_places` says in which modules of `keras.src` they stand.
"""
