//! What is served to whom: flag definitions, compilation, evaluation, bucketing.
