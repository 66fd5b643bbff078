"""Other packages' models as functions of a task, each imported only where it is fitted."""
