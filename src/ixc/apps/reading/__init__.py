"""Questions over many pages: files to rows, in this process, against servers, or on Ray.

sources     files, folders, globs, archives, lists and addresses to pages, in a fixed order
questions   questions of the command line and of files
records     pages, blocks, questions, rows, and the protocol of a runner
opening     pages to pictures, in a worker
answering   pictures to rows, in a worker that holds a model
local       runner in this process; processes: in several; endpoints: against servers; ray_runner: on Ray
mending     documents that could not be opened and now can
single      `--out FILE` and printed answers: page by page, one state file
"""
