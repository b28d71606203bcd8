"""Learners of band fractions from columns."""
