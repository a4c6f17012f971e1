"""Sentences about a whole source, for the log, the summary and the report, which knows them by their words."""

NO_TEXT = "no row has text: nothing can be learnt from reports of this source"
NO_PATIENT = "no row has a patient, and no header names one: images of one patient may get into different splits"
NO_IMAGE = "no image is left: every row is rejected or failed"
# Each of the following goes on with the columns, words or numbers.
UNUSED_COLUMNS = "columns not used: "
UNUSED_WORDS = "words of options.values that no cell holds: "
IGNORED_HEADERS = "PatientIDs in headers that stand beside many patients of the listing and were not used: "
LABELS_IN_TWO_CASES = "labels that differ from another one in small and capital letters alone: "
UNLISTED_IMAGES = "image files under the root that no row names, which are not used: "
FOLDER_LABELS = "labels are names of folders, which options.classes does not name: "
OTHER_LANGUAGES = "questions in languages that options.languages does not name, which are not used: "
NOT_PRESENT = "rows whose image is not under the root, which options.only_present leaves out: "
# Behind an unused column, before our column, or option, that it resembles.
DID_YOU_MEAN = " (did you mean "
