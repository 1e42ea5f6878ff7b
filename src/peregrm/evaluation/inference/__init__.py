"""What the figures of an evaluation can and cannot show: intervals, paired tests, power, agreement of judges, noise of repeats.

scipy and statsmodels do most of the statistics; these modules decide what goes in. Users are the unit that is drawn everywhere,
because cases of one user are not independent.
"""
