"""Units of work over the cores of one machine or the nodes of a cluster, on Ray Data.

session     connect to Ray, or start it on this machine; check that every node can do the work
tries       what each worker is working on, so that a part that kills its worker is tried twice and no more
workers     what runs in Ray's processes: units in, results out
stages      units through Ray Data, results back as they come; what a lost node took along is done again

Nothing here knows pages, questions or models, and nothing schedules: that is Ray's.
"""
