"""Programs that were written for another Keras: older names and arguments, which work and name today's."""
