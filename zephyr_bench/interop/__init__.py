"""Other harnesses' files, read into the store and written from it.

What only such a file can say (FastChat's -1, its times, a judge's prompt text) is kept as the `origin` of the answer or
judgment that it stands beside, so that an export gives back the rows that were read.
"""
