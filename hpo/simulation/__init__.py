"""A study without its work: trials that are recorded or made up, on a virtual clock.

``clock`` runs any ``JobSource`` as a runner would, ``replay`` is such a source over recorded
trials and another pruner, ``savings`` says what that would have saved and lost, and
``synthetic`` makes trials up for a study that has not run yet.
"""
